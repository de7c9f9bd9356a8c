"""`prithvi data`: HLS granules found, fetched and cut; chip stores made, checked and shown."""

from __future__ import annotations

import typer

from prithvi.cli.data import granules, stores

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="HLS granules and chip stores: search, choose, get, build, ..."
)
app.command("search")(granules.search_verb)
app.command("choose")(granules.choose_verb)
app.command("get")(granules.get_verb)
app.command("build")(stores.build_verb)
app.command("verify")(stores.verify_verb)
app.command("show")(stores.show_verb)
