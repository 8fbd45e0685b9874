"""What another system made, rankings or a model: the components that ``bench score`` names in its records."""

from harness import hookimpl


@hookimpl
def bench_trainers():
    """Stages that train nothing."""
    return {"external": ".made_elsewhere:ExternalTrainer", "checkpoint": ".trained_elsewhere:CheckpointTrainer"}


@hookimpl
def bench_decoders():
    """A decoder that decodes nothing."""
    return {"external": ".made_elsewhere:ExternalDecoder"}
