import shutil

import pytest

from coat.synthetic.corpus import CorpusSize, build_corpus

SIZE = CorpusSize(train=90, dev=24, test=48)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    if not shutil.which("espeak-ng") or not shutil.which("fluidsynth"):
        pytest.skip("espeak-ng and fluidsynth are not installed (make system)")
    return build_corpus(tmp_path_factory.mktemp("world") / "corpus", seed=5, size=SIZE, workers=2)
