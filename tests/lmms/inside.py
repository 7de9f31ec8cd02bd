"""Run by lmms-eval's environment: its own functions over some answers, and its runs of the miniature.

``python inside.py DATA OUT``: DATA holds ``NAME/sample.parquet`` with sounds as bytes.
"""

import json
import random
import sys
from pathlib import Path

import lmms_eval
from lmms_eval.tasks.alpaca_audio import utils as alpaca
from lmms_eval.tasks.clotho_aqa import utils as clotho  # noqa: F401
from lmms_eval.tasks.gigaspeech import utils as gigaspeech
from lmms_eval.tasks.librispeech import utils as librispeech
from lmms_eval.tasks.mmar import utils as mmar
from lmms_eval.tasks.mmau import utils as mmau
from lmms_eval.tasks.vocalsound import utils as vocalsound
from lmms_eval.tasks.voxpopuli import utils as voxpopuli

from coat.lmms.evaluate import evaluate
from coat.lmms.tasks import write_local_files

TASKS = Path(lmms_eval.__file__).parent / "tasks"
UPSTREAM = {
    "mmau_test_mini": TASKS / "mmau" / "mmau_test_mini.yaml",
    "librispeech_test_clean": TASKS / "librispeech" / "librispeech_test_clean.yaml",
    "vocalsound_test": TASKS / "vocalsound" / "vocalsound_test.yaml",
}
OURS = {"mmau_test_mini": "mmau", "librispeech_test_clean": "librispeech_clean", "vocalsound_test": "vocalsound"}


def mean_choice(parse, answer, *args):
    """What a function that may draw at random gives, over many draws."""
    random.seed(0)
    return [parse(answer, *args) for _ in range(400)]


def functions(cases):
    """What lmms-eval makes of each case."""
    options = cases["options"]
    index = dict(zip("ABCD", options, strict=True))
    found = {"letter": [], "letter_or_text": [], "first_contained": []}
    for answer in cases["answers"]:
        answer = answer.split("\n\n")[0]
        found["letter"].append(mean_choice(mmau.parse_multi_choice_response, answer, list("ABCD")))
        found["letter_or_text"].append(mean_choice(mmar.parse_multi_choice_response, answer, list("ABCD"), index))
        found["first_contained"].append(vocalsound.get_answer(answer))
    pairs = cases["transcripts"]
    clean = librispeech.remove_sp
    found["wer_basic"] = [librispeech.compute_wer([clean(r, "en")], [clean(h, "en")], "en") for r, h in pairs]
    clean = gigaspeech.remove_sp
    found["wer"] = [gigaspeech.compute_wer([clean(r)], [clean(h)]) for r, h in pairs]
    score = voxpopuli.voxpopuli_process_results_asr
    found["wer_by_utterance"] = [score({"normalized_text": r}, [h])["wer"] for r, h in pairs]
    assert "([0-5])" in Path(alpaca.__file__).read_text(), "the first digit is what it reads"
    return found


def main(data: Path, out: Path) -> None:
    """Write what lmms-eval says."""
    found = {"functions": functions(json.loads((out / "cases.json").read_text())), "runs": {}}
    local = write_local_files(
        out / "local", UPSTREAM, {name: data / OURS[name] / "sample.parquet" for name in UPSTREAM}
    )  # fmt: skip
    names = ["coat_mmau", "coat_meld", "coat_librispeech_clean", "coat_gtzan"]
    for interface, tasks in (("simple", [*local, *names]), ("chat", names)):
        found["runs"][interface] = evaluate(
            "miniature", tasks, out / "ours", data=data, include=[out / "local"], simple=interface == "simple"
        )
    (out / "found.json").write_text(json.dumps(found, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
