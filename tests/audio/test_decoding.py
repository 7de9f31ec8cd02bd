"""What programs write is decoded to its end, as the ffmpeg program decodes it, or refused with how much was good."""

import io
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from coat.audio import AudioError, decode_audio, load_audio, measure_audio
from coat.audio.decoding import Stretch, decode
from tests.audio import files

pytestmark = pytest.mark.skipif(bool(files.missing()), reason=f"not installed: {', '.join(files.missing())}")
# The most samples that a codec puts into a frame: what decoders may differ by at either end.
FRAME = 4608


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return files.everything(tmp_path_factory.mktemp("files"))


def correlation(ours, theirs):
    """Of two waveforms, at the shift within a frame that suits them best: versions skip an encoder's delay or not."""
    size = 1 << (max(len(ours), len(theirs)) * 2 - 1).bit_length()
    crossed = np.fft.irfft(np.fft.rfft(ours, size) * np.fft.rfft(theirs, size).conj(), size)
    shifts = np.concatenate([crossed[:FRAME], crossed[-FRAME:]])
    shift = int(np.argmax(shifts))
    shift = shift if shift < FRAME else shift - 2 * FRAME
    ours, theirs = ours[max(shift, 0) :], theirs[max(-shift, 0) :]
    both = min(len(ours), len(theirs))
    return float(np.corrcoef(ours[:both], theirs[:both])[0, 1])


def test_every_kind_is_decoded_as_ffmpeg_decodes_it(made):
    assert len(made) >= 40
    assert len({name.split()[0] for name in made}) >= 20
    wrong = []
    for name, path in made.items():
        samples, rate = decode(path, str(path))
        theirs = files.by_ffmpeg(path, rate, len(samples))
        if abs(samples.shape[1] - theirs.shape[1]) > FRAME:
            wrong.append(f"{name}: {samples.shape[1]} samples, ffmpeg has {theirs.shape[1]}")
            continue
        if name.startswith("joined"):  # versions of ffmpeg differ at the seam: see the next test
            continue
        for ours, other in zip(samples, theirs, strict=True):
            if (found := correlation(ours, other)) < 0.999:
                wrong.append(f"{name}: correlation {found:.4f}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ["mp3", "opus", "ogg", "flac", "aac"])
def test_joined_files_hold_both_recordings(made, kind):
    once, rate = decode(made[f"{kind} short"], kind)
    twice, _ = decode(made[f"joined {kind}"], kind)
    assert abs(twice.shape[1] - 2 * once.shape[1]) <= FRAME
    inside = slice(rate // 2, 2 * rate)
    assert np.corrcoef(once[0, inside], twice[0, inside])[0, 1] > 0.999
    assert correlation(once[0, inside], twice[0, -once.shape[1] :][inside]) > 0.99


def test_lengths_are_those_of_what_is_decoded(made):
    for name, path in made.items():
        clip = load_audio(path)
        assert decode_audio(path.read_bytes(), name).seconds == clip.seconds, name
        if name != "joined flac":  # whose header is that of the first, and is believed until it is decoded
            assert measure_audio(path) == pytest.approx(clip.seconds, abs=1e-6), name


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("vbr mp3 without a Xing header", 19.2),
        ("mp3 through a pipe", 19.2),
        ("flac through a pipe", 2.78),
        ("wav through a pipe", 2.78),
        ("wav of a recorder that was killed", 2.78),
        ("joined mp3", 5.56),
        ("joined opus", 5.56),
        ("joined flac", 5.56),
        ("mp4 with pictures", 2.78),
        ("webm short", 2.78),
        ("m4a short", 2.78),
    ],
)
def test_headers_are_not_believed(made, name, seconds):
    clip = load_audio(made[name], max_seconds=seconds + 0.5)
    assert clip.seconds == pytest.approx(seconds, abs=0.2)


def cut(path, share, out):
    out.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return out


@pytest.mark.parametrize("kind", ["flac", "mp3", "opus", "webm", "aiff", "wav"])
def test_a_file_that_was_cut_short_says_how_much_is_good(made, kind, tmp_path):
    part = cut(made[f"{kind} short"], 0.5, tmp_path / f"half.{kind}")
    with pytest.raises(AudioError, match=r"(1\.\d|0\.9)\d s could be decoded") as caught:
        load_audio(part)
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize("kind", ["wav", "m4a", "webm"])
def test_joined_files_of_which_players_hear_the_first_are_refused(made, kind, tmp_path):
    with pytest.raises(AudioError, match="several recordings") as caught:
        load_audio(files.joined(made[f"{kind} short"], tmp_path / f"two.{kind}"))
    assert caught.value.kind == "damaged"


def test_an_ogg_file_that_was_cut_within_a_page(made, tmp_path):
    for share in (0.5, 0.9):
        with pytest.raises(AudioError, match="was cut short") as caught:
            load_audio(cut(made["ogg short"], share, tmp_path / f"{share}.ogg"))
        assert caught.value.kind == "damaged"


def test_damage_in_the_middle_is_refused(made, tmp_path):
    data = bytearray(made["flac short"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    (tmp_path / "hole.flac").write_bytes(data)
    with pytest.raises(AudioError, match="is damaged"):
        load_audio(tmp_path / "hole.flac")


def test_sound_after_the_end_that_a_header_says_is_not_lost(made, tmp_path):
    data = bytearray(made["wav short"].read_bytes())
    place = data.index(b"data")
    data[place + 4 : place + 8] = (16_000).to_bytes(4, "little")
    (tmp_path / "more.wav").write_bytes(data)
    with pytest.raises(AudioError, match=r"2\.3 s more than its header says"):
        load_audio(tmp_path / "more.wav")


def test_a_small_file_that_unpacks_to_hours_stops_at_the_longest_clip(tmp_path):
    silence = tmp_path / "hours.flac"
    soundfile.write(silence, np.zeros(3600 * 8000, np.int16), 8000)
    source = ("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "3600")
    packed = files.ffmpeg(*source, "-c:a", "libvorbis", out=tmp_path / "hours.ogg")
    assert packed.stat().st_size < 1e6
    with pytest.raises(AudioError, match="lasts more than 30 s") as caught:
        load_audio(packed, max_seconds=30)
    assert caught.value.kind == "too long"
    with pytest.raises(AudioError, match=r"lasts 3600\.0 s"):
        load_audio(silence, max_seconds=30)


def test_stretches_are_those_of_the_whole_file(made):
    for name in ("wav short", "flac short", "mp3 short", "opus short", "m4a short", "flac through a pipe"):
        whole, rate = decode(made[name], name)
        part, _ = decode(made[name], name, Stretch(0.5, 1.25))
        np.testing.assert_array_equal(part, whole[:, round(0.5 * rate) : round(1.25 * rate)])
        rest, _ = decode(made[name], name, Stretch(2.0))
        np.testing.assert_array_equal(rest, whole[:, round(2.0 * rate) :])
        with pytest.raises(AudioError, match=r"a stretch up to 9 s is asked for") as caught:
            decode(made[name], name, Stretch(0.0, 9.0))
        assert caught.value.kind == "stretch"
        with pytest.raises(AudioError, match=r"a stretch from 8 s is asked for"):
            decode(made[name], name, Stretch(8.0))


def test_joined_files_of_other_rates_are_as_the_first_is(made, tmp_path):
    path = tmp_path / "two.mp3"
    path.write_bytes(made["mp3 short"].read_bytes() + made["mp3 wide"].read_bytes())
    clip = load_audio(path)
    assert clip.sampling_rate == files.RATE
    assert clip.seconds == pytest.approx(2.78 + 3.1, abs=0.2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{wav}\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile {wav}\n"),
        ("a.pls", "[playlist]\nFile1={wav}\nNumberOfEntries=1\n"),
        ("a.sdp", "v=0\nm=audio 5004 RTP/AVP 0\nc=IN IP4 127.0.0.1\n"),
    ],
)
def test_a_file_that_names_others_opens_none(made, tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content.format(wav=made["wav short"]))
    with pytest.raises(AudioError, match="cannot be read as audio"):
        load_audio(path)


def test_pictures_alone_hold_no_sound(tmp_path):
    path = files.ffmpeg("-f", "lavfi", "-i", "testsrc=d=1:s=64x48", out=tmp_path / "mute.mp4")
    with pytest.raises(AudioError, match="holds no sound"):
        load_audio(path)


def test_the_pauses_of_a_telephone_keep_their_time(tmp_path):
    """sox's encoder sends comfort noise in pauses, which FFmpeg does not decode."""
    voice = files.speechlike(tmp_path / "voice.wav", 1.0, 8000)
    quiet = tmp_path / "pause.wav"
    files.run("sox", voice, quiet, "pad", "0.5", "2")
    try:
        files.run("sox", quiet, "-t", "amr-nb", tmp_path / "call.amr")
    except Exception:
        pytest.skip("this sox writes no AMR (libsox-fmt-all)")
    assert load_audio(tmp_path / "call.amr").seconds == pytest.approx(3.5, abs=0.06)
    ours = files.ffmpeg("-i", tmp_path / "call.amr", "-c", "copy", out=tmp_path / "call.3gp")
    assert load_audio(ours).seconds == pytest.approx(3.5, abs=0.06)


def test_no_bytes_whatever_end_in_anything_but_a_named_error(made):
    rng = np.random.default_rng(0)
    for name in ("wav short", "flac short", "mp3 short", "opus short", "m4a short", "webm short", "nist sphere"):
        whole = made[name].read_bytes()
        for _ in range(25):
            data = bytearray(whole)
            for place in rng.integers(0, min(len(data), 600 if rng.random() < 0.5 else len(data)), 12):
                data[place] = rng.integers(256)
            with suppress(AudioError):
                decode_audio(bytes(data), name, max_seconds=60)


def test_samples_from_memory_and_from_a_file_are_the_same(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0, 0.1, (8000, 2)), 16_000, format="WAV")
    (tmp_path / "a.wav").write_bytes(buffer.getvalue())
    ours, rate = decode(buffer.getvalue(), "a")
    theirs, _ = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    np.testing.assert_array_equal(ours, theirs.T)
    assert rate == 16_000
