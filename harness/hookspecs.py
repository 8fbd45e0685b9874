"""Every hook of the harness: this file is the plugin API.

A plugin implements any of these with ``from harness import hookimpl``. The registration hooks return what the plugin
offers: components, or their places as ``"package.module:Class"`` strings (``".module:Class"`` within the plugin's own
package), which are imported only when a run needs them, so that every command stays instant. A name that two plugins
claim is an error that names both. All of pluggy holds: ``specname``, ``tryfirst``, ``trylast``, wrappers.
"""

import pluggy

hookspec = pluggy.HookspecMarker("bench")


@hookspec
def bench_datasets():
    """Return ``{name: class}`` of dataset readers (:class:`harness.components.DatasetReader`)."""


@hookspec
def bench_tokenizers():
    """Return ``{name: class}`` of item tokenizers: items → semantic IDs (:class:`~harness.components.Tokenizer`)."""


@hookspec
def bench_embedders():
    """Return ``{name: class}`` of embedders: items → vectors (:class:`harness.components.Embedder`)."""


@hookspec
def bench_backbones():
    """Return ``{name: class}`` of causal language model builders (:class:`harness.components.Backbone`)."""


@hookspec
def bench_trainers():
    """Return ``{name: class}`` of stage trainers (:class:`harness.components.Trainer`)."""


@hookspec
def bench_decoders():
    """Return ``{name: class}`` of decoders: model + histories → rankings (:class:`harness.components.Decoder`)."""


@hookspec
def bench_metrics():
    """Return ``{name: function}`` of metrics: an evaluated split → numbers (:data:`harness.components.Metric`)."""


@hookspec
def bench_rewards():
    """Return ``{name: function or class}`` of rewards: groups of completions → numbers (:mod:`harness.components`)."""


@hookspec
def bench_methods():
    """Return a list of recipes: paths of YAML files in the form of ``configs/methods``, or dicts of that form."""


@hookspec
def bench_reported():
    """Return a list of paths of YAML files with published numbers, in the form of ``leaderboard/reported``."""


@hookspec
def bench_loaded(plugins):
    """Observe that all plugins are loaded; ``plugins.registry(kind)`` is what they offer."""


@hookspec
def bench_run_started(run):
    """Observe the start of a run (:class:`harness.components.RunInfo`). A failing observer never fails the run."""


@hookspec
def bench_stage_finished(run, stage, result):
    """Observe a finished stage: its name and its metrics as in ``metrics.json``."""


@hookspec
def bench_run_finished(run, result):
    """Observe a finished run: ``result`` is the content of ``metrics.json``."""


@hookspec
def bench_commands(cli):
    """Add Click commands to ``cli``, the ``bench`` group."""
