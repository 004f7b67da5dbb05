"""JSON API and web page for one tagger: `ldnet-tag MODEL --serve PORT`. Requires the extra `serve`."""
