"""Tasks of `tagging.py`, each run in a separate process: `python tagging_tasks.py --task JSON`."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]


class Clock:
    """Wall and CPU time of a process, before and after its start-up."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.start()

    def start(self) -> None:
        """The end of the start-up."""
        self._start_up = time.time() - self._began
        self._start_up_cpu = time.process_time()
        self._started = time.perf_counter()

    def stop(self) -> dict[str, float]:
        """All figures, with the peak of the resident memory."""
        return {
            "start_up": self._start_up,
            "start_up_cpu": self._start_up_cpu,
            "seconds": time.perf_counter() - self._started,
            "cpu": time.process_time() - self._start_up_cpu,
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def run_predict(task: dict[str, Any]) -> dict[str, float]:
    """Run `allennlp predict` in this process. Start-up ends where it begins to read."""
    from allennlp.__main__ import run
    from allennlp.commands.predict import _PredictManager

    clock = Clock(task["began"])
    inner = _PredictManager.run

    def timed(manager: Any) -> None:
        clock.start()
        inner(manager)

    _PredictManager.run = timed
    sys.argv = ["allennlp", *task["arguments"]]
    run()
    return clock.stop()


def run_tag(task: dict[str, Any]) -> dict[str, float]:
    """Run `ldnet-tag` in this process. Start-up ends where the tagger is loaded."""
    from ldnet_runtime import tagger as module
    from ldnet_runtime.__main__ import main

    clock = Clock(task["began"])
    inner = module.Tagger.__init__

    def timed(self: Any, *arguments: Any, **options: Any) -> None:
        inner(self, *arguments, **options)
        clock.start()

    module.Tagger.__init__ = timed  # type: ignore[method-assign]
    status = main(task["arguments"])
    assert not status, status
    return clock.stop()


def run_prepare(task: dict[str, Any]) -> dict[str, Any]:
    """Write archives, exported taggers and the text into a folder."""
    from allennlp.models.archival import load_archive
    from synthetic_taggers import Sizes, prepare

    from ldnet_allennlp.export import export_tagger

    folder = Path(task["folder"])
    setting = prepare(
        folder, task["taggers"], Sizes(lm_words=task["lm_words"]), task["sentences"], task["seed"]
    )
    exported: dict[str, dict[str, str]] = {"ldnet-tag": {}, "ldnet-tag int8": {}}
    for tagger, path in setting.archives.items():
        archive = load_archive(path)
        for way, files in exported.items():
            files[tagger] = str(folder / f"{tagger}.{way.replace(' ', '-')}.onnx")
            data = export_tagger(archive.model, archive.dataset_reader, int8=way.endswith("int8"))
            Path(files[tagger]).write_bytes(data)
    return {**setting._asdict(), "exported": exported}


def run_quality(task: dict[str, Any]) -> list[str]:
    """What `ldnet-export --int8 --test` reports for a trained tagger."""
    from ldnet_allennlp.commands.ldnet_export import export_archive

    target = str(Path(task["folder"]) / "trained.onnx")
    return export_archive(
        task["archive"], target, int8=True, test=task["test"], max_changed=100.0, force=True
    )


TASKS = {"prepare": run_prepare, "predict": run_predict, "tag": run_tag, "quality": run_quality}

if __name__ == "__main__":
    task = json.loads(sys.argv[sys.argv.index("--task") + 1])
    Path(task["result"]).write_text(json.dumps(TASKS[task["what"]](task)), encoding="utf-8")
