"""A JSON API and a web page for one tagger: `ldnet-tag MODEL --serve PORT`. Needs the extra `serve`."""
