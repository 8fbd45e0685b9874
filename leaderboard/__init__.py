"""The leaderboard: records of runs, reported numbers, and the tables, reports and pages made of them.

It is a plugin: its commands, its published numbers and the report of a finished run come by the hooks that any plugin
has.
"""

from pathlib import Path

from harness import hookimpl


@hookimpl
def bench_commands(cli):
    """``bench suite``, ``report``, ``compare``, ``leaderboard`` and ``results``."""
    from .commands import leaderboard, report, results, suite

    for command in (suite.suite, report.report, report.compare, leaderboard.leaderboard, results.results):
        cli.add_command(command)


@hookimpl
def bench_reported():
    """The published and replicated numbers that come with the harness."""
    return sorted((Path(__file__).parent / "reported").glob("*.yaml"))


@hookimpl
def bench_loaded(plugins):
    """Take in the published numbers of all plugins."""
    from . import reported

    reported.bring(path for path, _ in plugins.reported())


@hookimpl
def bench_run_finished(run):
    """Write the report of a finished run; what fails in it is named, and ``bench report RUN`` makes it later."""
    from .report import document

    document.write_for(run.directory, run.figures)
