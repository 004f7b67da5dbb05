"""`ldnet-tag`: tag files with an exported tagger."""

import argparse
import sys
from collections.abc import Sequence

from ldnet_runtime import __version__

# numpy and ONNX Runtime are imported only for tagging.

_INPUTS = ("auto", "text", "document", "jsonl", "conll")
_OUTPUTS = ("json", "inline", "conll", "html", "standoff", "doccano", "label_studio")
_FILE_OPTIONS = (
    *("inputs", "output_file", "input", "output", "n_best", "marginals", "no_confidences", "tag_encoding"),
    *("window", "quiet", "info"),
)
_INTERRUPTED = 130  # a shell's exit status after SIGINT


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="ldnet-tag",
        description="Tag text with a model exported by 'allennlp ldnet-export'.",
        epilog="Examples: ldnet-tag ner.onnx article.txt; ldnet-tag ner.onnx articles/ --output html -o entities.html; "
        "echo 'Ada Lovelace lived in London .' | ldnet-tag ner.onnx --output inline",
    )
    parser.add_argument("model", help="the exported tagger (.onnx)")
    parser.add_argument(
        "inputs",
        nargs="*",
        default=["-"],
        help="files, folders or globs; standard input by default, or by '-'",
    )
    parser.add_argument(
        "-o", "--output-file", metavar="PATH", help="a file, or a folder for one file per input"
    )
    parser.add_argument(
        "--input",
        choices=_INPUTS,
        default="auto",
        help="format of the inputs (default: detected for each file): text is one text per line, "
        "document one text per file",
    )
    parser.add_argument(
        "--output", choices=_OUTPUTS, default="json", help="format of the output (default: json)"
    )
    parser.add_argument(
        "--n-best", type=_positive, default=0, metavar="N", help="output the N best tag sequences (as json)"
    )
    parser.add_argument(
        "--marginals",
        action="store_true",
        help="output the probability of each label for each word (as json)",
    )
    parser.add_argument("--no-confidences", action="store_true", help="omit the probabilities of the spans")
    parser.add_argument(
        "--tag-encoding", metavar="NAME", help="span encoding of --output conll, for example BIO"
    )
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="parallel batches (default: one per CPU)"
    )
    parser.add_argument(
        "--tokens-per-batch",
        type=_positive,
        default=512,
        metavar="N",
        help="words per batch, padding included (default: 512)",
    )
    parser.add_argument(
        "--window",
        type=_positive,
        default=4096,
        metavar="N",
        help="texts to sort by length at a time (default: 4096)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--serve", type=_port, metavar="PORT", help="start a JSON API and a web page instead")
    parser.add_argument("--host", default="127.0.0.1", help="address for --serve (default: 127.0.0.1)")
    parser.add_argument("--info", action="store_true", help="describe the model and exit")
    parser.add_argument("--version", action="version", version=f"ldnet_runtime {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = build_parser()
    options = parser.parse_intermixed_args(arguments)  # files may follow options
    if options.serve is not None:
        unused = [name for name in _FILE_OPTIONS if getattr(options, name) != parser.get_default(name)]
        if unused:
            parser.error(f"--serve cannot be combined with {', '.join(map(_shown, unused))}")
    elif options.output != "json" and (options.n_best or options.marginals):
        parser.error("--n-best and --marginals require --output json")
    try:
        from ldnet_runtime.command import describe, run

        if options.info:
            print(describe(options.model))
        elif options.serve is not None:
            serve(options)
        else:
            run(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # or Python reports that standard output cannot be flushed
        return 1
    except (ValueError, OSError, MemoryError) as error:
        # Files and models raise only these errors, with one-sentence messages.
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}."
        print(f"ldnet-tag: error: {message}", file=sys.stderr)
        return 1
    return 0


def serve(options: argparse.Namespace) -> None:
    """Serve a model until it is interrupted."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(f"--serve needs {error.name}: pip install 'ldnet-runtime[serve]'.") from error
    from ldnet_runtime.server.run import serve as run_server
    from ldnet_runtime.tagger import Tagger

    tagger = Tagger(options.model, options.threads, options.tokens_per_batch)
    run_server(tagger, options.host, options.serve)


def _shown(name: str) -> str:
    return name if name == "inputs" else f"--{name.replace('_', '-')}"


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a port from 1 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
