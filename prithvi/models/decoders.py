"""TerraTorch's decoders as heads, by their names there. Importing this takes half a minute."""
