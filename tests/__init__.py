"""A package of its own: pygeoapi 0.21 installs one called `tests` too, which would be found before a folder."""
