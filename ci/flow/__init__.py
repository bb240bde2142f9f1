"""The public library: write a pipeline of your own from Towpath's stages and gates and yours.

A pipeline is a function from the source to a ``Pipeline``. What a node returns is handed to
others by giving them the node, and that makes the edges::

    # shop_ci.py
    import dagger
    from ci import stages
    from ci.flow import Pipeline, StageFailed
    from ci.gates import AllOf, Statuses

    async def prices(source: dagger.Directory) -> None:
        if not await source.glob("prices/*.csv"):
            raise StageFailed("no price list", expected="prices/*.csv")

    def pipeline(source: dagger.Directory) -> Pipeline:
        p = Pipeline("shop")
        checked = p.stage("prices", prices, source)
        lint = p.stage("lint", stages.lint, source)
        quality = p.gate("quality", Statuses(), [checked, lint])
        image = p.stage("build", stages.build, source, after=[quality])
        p.stage("sbom", stages.sbom, image)
        return p

``ci pipeline`` runs it where ci.toml names it (``[project] pipeline = "shop_ci:pipeline"``). It
is a Dagger module of its own with::

    @dagger.object_type
    class Shop:
        @dagger.function(cache="never")
        async def pipeline(self, source: dagger.Directory) -> str:
            run = await pipeline(source).run()
            return run.check().summary
"""

from ci.errors import StageErrored, StageFailed, StageSkipped
from ci.events import Feed
from ci.flow.node import Input, Node
from ci.flow.pipeline import Pipeline
from ci.flow.run import NotPassedError, Run
from ci.scheduler import Stop, Trigger
from ci.values import DeliveryRecord, Evidence, Output, Status, Verdict

__all__ = [
    "DeliveryRecord",
    "Evidence",
    "Feed",
    "Input",
    "Node",
    "NotPassedError",
    "Output",
    "Pipeline",
    "Run",
    "StageErrored",
    "StageFailed",
    "StageSkipped",
    "Status",
    "Stop",
    "Trigger",
    "Verdict",
]
