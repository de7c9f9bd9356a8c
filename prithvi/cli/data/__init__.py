"""`prithvi data`: HLS granules found, fetched and cut; chip stores made, checked and shown."""

from __future__ import annotations

import typer

from prithvi.cli.data import build, choose, get, search, show, verify

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="HLS granules and chip stores: search, choose, get, build, ..."
)
app.command("search")(search.search_verb)
app.command("choose")(choose.choose_verb)
app.command("get")(get.get_verb)
app.command("build")(build.build_verb)
app.command("verify")(verify.verify_verb)
app.command("show")(show.show_verb)
