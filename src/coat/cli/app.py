"""The typer application and its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from coat.cli import (
    ablate,
    chat,
    cost,
    data,
    demo,
    doctor,
    eval_compare,
    eval_tasks,
    evaluate,
    experts,
    export,
    features,
    import_corpus,
    labels,
    lmms,
    pocket,
    probe,
    reconstruct,
    report,
    runs,
    serve,
    think,
    train,
    view,
)

app = typer.Typer(
    help="Continuous Audio Thinking: give an audio language model a latent workspace.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        from coat import __version__

        typer.echo(f"coat {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("chat")(chat.chat)
app.command("think")(think.think)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command("view")(view.view)
data.data.command("import")(import_corpus.import_corpus)
data.data.command("features")(features.features)
data.data.command("labels")(labels.labels)
app.add_typer(data.data, name="data")
app.add_typer(experts.experts, name="experts")
evaluate.evaluate.command("compare")(eval_compare.compare)
evaluate.evaluate.command("report")(eval_compare.report)
evaluate.evaluate.command("list")(eval_tasks.list_tasks)
evaluate.evaluate.command("check")(eval_tasks.check)
evaluate.evaluate.command("lmms")(lmms.lmms)
app.add_typer(evaluate.evaluate, name="eval")
app.command("cost")(cost.cost)
app.command("ablate")(ablate.ablate)
app.command("probe")(probe.probe)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("report")(report.report)
app.add_typer(runs.runs, name="runs")
app.add_typer(pocket.pocket, name="pocket")
app.command("doctor")(doctor.doctor)
