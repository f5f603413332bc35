# SPDX-License-Identifier: Apache-2.0
"""All contenders on one image, by turns: upload, time until all copies are there, processors."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence, Set

from benchmarks.accounting import CLIENT, medians
from benchmarks.bodies import Body, qcow2_with_holes, random_bytes
from benchmarks.contenders import (
    CHUNKED,
    Contender,
    CopyImage,
    CurlToTarget,
    Import,
    Ours,
    Sample,
    Script,
    told,
)
from benchmarks.figures import Figure, Goal, compare
from benchmarks.settings import Settings
from benchmarks.stage import TARGETS, Stage
from benchmarks.turns import alternate

BARE, BARE_AGAIN, OURS = "bare Glance", "bare Glance again", "with the filter"
CHUNKED_BARE, CHUNKED_OURS = "bare Glance, chunked", "with the filter, chunked"
LINE_BARE, LINE_OURS = "bare Glance, slow client", "with the filter, slow client"
IMPORT, COPY = "Glance's import to four stores", "Glance's copy-image"
SCRIPT, TEE = "script: upload, download and PUT at once", "tee and curl at the client"
STEPS = "script: upload, download, PUT to each"
LINE_SCRIPT = "script, slow client"
CURL = "curl to one target"

Samples = Mapping[str, Sequence[Sample]]


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of the samples, and which contenders it takes.

    :ivar what: for the reader, with ``{line}`` where clients have a slow one
    """

    what: str
    contenders: tuple[str, ...]
    answer: Callable[["Question", str, Samples, int], Figure]
    goal: Goal | None = None
    notes: tuple[str, ...] = ()


def seconds(samples: Samples, of: str) -> dict[str, list[float]]:
    """One number of each sample, by contender."""
    return {name: [getattr(each, of) for each in runs] for name, runs in samples.items()}


def _ratio(of: str, question: Question, name: str, samples: Samples, _size: int) -> Figure:
    over, under = question.contenders
    numbers = seconds(samples, of)
    return compare(name, question.what, numbers, over, under, question.goal, notes=question.notes)


def _complete_to_upload(question: Question, name: str, samples: Samples, _size: int) -> Figure:
    ours, bare = question.contenders
    numbers = {
        ours: [each.complete for each in samples[ours]],
        bare: [each.upload for each in samples[bare]],
    }
    return compare(name, question.what, numbers, ours, bare, question.goal)


def _bytes_read(question: Question, name: str, samples: Samples, size: int) -> Figure:
    read = [each.downloads * size for each in samples[OURS]]
    return Figure(
        name,
        question.what,
        max(read),
        "bytes",
        question.goal,
        samples={OURS: read},
        notes=("from the requests in Glance's log; the writer cannot read the primary store",),
    )


def _writer_cpu(question: Question, name: str, samples: Samples, size: int) -> Figure:
    gib = size / (1 << 30)
    found = [each.hashing.other_seconds for each in samples[OURS] if each.hashing]
    numbers = {
        OURS: [each / gib / TARGETS for each in found],
        CURL: [each.usage.cpu[CLIENT] / gib for each in samples[CURL]],
    }
    medians_of = {key: statistics.median(each) for key, each in numbers.items()}
    text = ", ".join(f"{key} {value:.3f} s" for key, value in medians_of.items())
    note = f"CPU for each GiB and target: {text}"
    return compare(name, question.what, numbers, OURS, CURL, question.goal, notes=(note,))


def _hashed(question: Question, name: str, samples: Samples, size: int) -> Figure:
    times = [each.hashing.bytes / size for each in samples[OURS] if each.hashing]
    spent = statistics.median(each.hashing.seconds for each in samples[OURS] if each.hashing)
    return Figure(
        name,
        question.what,
        round(max(times), 2),
        "times",
        question.goal,
        samples={OURS: times},
        notes=(f"CPU of the hashing thread: {spent:.2f} s for the image (median)",),
    )


UPLOAD = functools.partial(_ratio, "upload")
COMPLETE = functools.partial(_ratio, "complete")
QUESTIONS: Mapping[str, Question] = {
    "noise": Question("the same twice: bare Glance / bare Glance", (BARE_AGAIN, BARE), UPLOAD),
    "upload": Question("upload, with the filter / bare Glance", (OURS, BARE), UPLOAD, Goal(1.05)),
    "upload-chunked": Question(
        "upload without Content-Length, with the filter / bare Glance",
        (CHUNKED_OURS, CHUNKED_BARE),
        UPLOAD,
        Goal(1.05),
    ),
    "complete": Question(
        "first byte to all locations / bare upload", (OURS, BARE), _complete_to_upload, Goal(1.10)
    ),
    "upload-line": Question(
        "upload, with the filter / bare Glance, the client at {line}",
        (LINE_OURS, LINE_BARE),
        UPLOAD,
        Goal(1.05),
    ),
    "complete-line": Question(
        "first byte to all locations / bare upload, the client at {line}",
        (LINE_OURS, LINE_BARE),
        _complete_to_upload,
        Goal(1.10),
    ),
    "against-import": Question(
        "first byte to all locations, ours / Glance's parallel import",
        (OURS, IMPORT),
        COMPLETE,
        Goal(0.40),
    ),
    "against-copy-image": Question(
        "first byte to all locations, ours / Glance's copy-image",
        (OURS, COPY),
        COMPLETE,
        notes=("copy-image fills one store after the other, whatever max_parallel_stores says",),
    ),
    "against-script": Question(
        "first byte to all locations, ours / the script at its best: downloads and PUTs at once",
        (OURS, SCRIPT),
        COMPLETE,
        Goal(0.70),
    ),
    "against-steps": Question(
        "first byte to all locations, ours / the script: download, then PUT to each target",
        (OURS, STEPS),
        COMPLETE,
        Goal(0.70),
        notes=("the script proves nothing: it registers what it has written, whatever that is",),
    ),
    "against-script-line": Question(
        "first byte to all locations, ours / the script at its best, the client at {line}",
        (LINE_OURS, LINE_SCRIPT),
        COMPLETE,
        Goal(0.70),
    ),
    "against-tee": Question(
        "first byte to all locations, ours / tee and curl at the client",
        (OURS, TEE),
        COMPLETE,
        notes=("the client sends four times the bytes, proves nothing and repairs nothing",),
    ),
    "reads": Question(
        "bytes read from Glance or its store for an upload", (OURS,), _bytes_read, Goal(0)
    ),
    "writer-cpu": Question(
        "CPU of the writer for each GiB and target, without hashing / curl -T",
        (OURS, CURL),
        _writer_cpu,
        Goal(1.0),
    ),
    "hashing": Question("how often an image is hashed, three targets", (OURS,), _hashed, Goal(1)),
}
NAMES = tuple(QUESTIONS)
QCOW2_NAMES = ("qcow2",)


def run(stage: Stage, settings: Settings, wanted: Set[str]) -> Iterator[Figure]:
    """Answer what is wanted with the contenders that it takes."""
    body = random_bytes(stage.top / "image.raw", settings.image)
    questions = {
        name: dataclasses.replace(question, what=question.what.format(line=settings.line))
        for name, question in QUESTIONS.items()
        if name in wanted
    }
    needed = {each for question in questions.values() for each in question.contenders}
    size = body.size
    samples = race(stage, settings, body, needed)
    cpu = medians({name: [each.usage for each in runs] for name, runs in samples.items()})
    for name, question in questions.items():
        figure = question.answer(question, name, samples, size)
        # That of curl alone is part of the answer already, and nothing that explains it.
        used = {each: cpu[each] for each in question.contenders if each != CURL}
        yield dataclasses.replace(figure, cpu_seconds=used)


def run_qcow2(stage: Stage, settings: Settings, _wanted: Set[str]) -> Iterator[Figure]:
    """The same on a qcow2 that is mostly holes: small, so that what does not grow weighs more."""
    body = qcow2_with_holes(stage.top / "image.qcow2", settings.qcow2_disk, settings.qcow2_data)
    others = {
        IMPORT: "Glance's parallel import",
        COPY: "Glance's copy-image",
        SCRIPT: "the script",
    }
    kind = f"{body.disk_format} of {body.size >> 20} MiB"
    samples = race(stage, settings, body, {BARE, OURS, *others})
    cpu = medians({name: [each.usage for each in runs] for name, runs in samples.items()})
    uploads, complete = seconds(samples, "upload"), seconds(samples, "complete")
    what = f"{kind}: upload, with the filter / bare Glance"
    yield compare("qcow2", what, uploads, OURS, BARE, cpu_seconds=cpu)
    for other, short in others.items():
        what = f"{kind}: first byte to all locations, ours / {short}"
        yield compare("qcow2", what, complete, OURS, other)


def race(stage: Stage, settings: Settings, body: Body, names: Set[str]) -> dict[str, list[Sample]]:
    """Let these contenders take turns, after a warm-up that does not count."""
    chosen = {name: each for name, each in _contenders(stage, settings).items() if name in names}
    small = random_bytes(stage.top / "warm-up.raw", settings.warm_up)
    try:
        alternate({name: functools.partial(each.run, small) for name, each in chosen.items()}, 1)
        return alternate(
            {name: functools.partial(told, name, each, body) for name, each in chosen.items()},
            settings.rounds,
        )
    finally:
        small.path.unlink()
        body.path.unlink()


def _contenders(stage: Stage, settings: Settings) -> dict[str, Contender]:
    bare, ours, line = stage.bare, stage.ours, settings.line_curl
    return {
        BARE: Contender(bare),
        OURS: Ours(ours),
        CHUNKED_BARE: Contender(bare, CHUNKED),
        CHUNKED_OURS: Ours(ours, CHUNKED),
        LINE_BARE: Contender(bare, line),
        LINE_OURS: Ours(ours, line),
        IMPORT: Import(bare),
        COPY: CopyImage(bare),
        SCRIPT: Script(bare, "copy-after-upload.sh"),
        STEPS: Script(bare, "copy-step-by-step.sh"),
        LINE_SCRIPT: Script(bare, "copy-after-upload.sh", line),
        TEE: Script(bare, "tee-while-uploading.sh"),
        CURL: CurlToTarget(ours),
        BARE_AGAIN: Contender(bare),
    }
