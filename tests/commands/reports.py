"""Reports as `report_of` gives them, made by hand."""


def make_stack(layers, unpruned, gates=None, dense=True, output="projection"):
    """The layers of one direction."""
    gates = [None] * len(layers) if gates is None else list(gates)
    return {
        "layers": list(layers),
        "gates": gates,
        "unpruned": unpruned,
        "dense": dense,
        "output": output,
    }


def make_report(**changes):
    """A tagger with 2 of 4 forward layers, of which one was cut, and no backward layers."""
    return {
        "archive": "nowhere/model.tar.gz",
        "model": "LdnetTagger",
        "layers": {"forward": make_stack([1, 2, 3], 4, [0.7, 0.0, 1.0]), "backward": make_stack([], 0)},
        "parameters": 1_234_567,
        "multiply_adds": 620_000,
        "components": {"LM forward": 500_000, "BiLSTM": 120_000},
        "not_counted": [],
        "embedding_bytes": 2**20,
        "total_bytes": 2**21,
        "archive_bytes": 3 * 2**20,
        "words_per_second": 12_345.6,
        **changes,
    }
