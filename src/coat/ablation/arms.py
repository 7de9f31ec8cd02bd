"""Arms of one recipe that differ in one thing each: the ladder of Table 4, the heads of Table 5, and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coat.config.reading import parse_recipe
from coat.config.recipe import Recipe, StageConfig
from coat.errors import CoatError, did_you_mean
from coat.experts import expert_class

BASELINE, SFT, BLOCK, REPRESENTATIONAL, FULL = "baseline", "sft", "block", "representational", "full"
LADDER = (BASELINE, SFT, BLOCK, REPRESENTATIONAL, FULL)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: Name of its folder.
        title: Title in tables.
        against: The arm that it is compared with.
        recipe: The recipe that it trains; None leaves the backbone as it is.
    """

    name: str
    title: str
    against: str
    recipe: Recipe | None


def arms_of(recipe: Recipe, groups: Sequence[str]) -> list[Arm]:
    """Arms of some groups, each once, and CoAT where a group or an arm is compared with it.

    CoAT itself is compared with the arm before it in the ladder, else with fine-tuning alone where that is among them.

    Args:
        recipe: The full method.
        groups: Keys of ``GROUPS``, or names of single arms.

    Raises:
        CoatError: There is no such group or arm.
    """
    full = Arm(FULL, "CoAT", FULL, recipe)
    single = {arm.name: arm for maker in _MAKERS.values() for arm in maker(recipe)} | {FULL: full}
    for group in groups:
        if group not in GROUPS and group not in single:
            problem = f"There is no group of arms '{group}', nor an arm of that name."
            raise CoatError(problem, did_you_mean(group, [*GROUPS, *single]))
    found: dict[str, Arm] = {}
    for group in groups:
        for arm in _MAKERS[group](recipe) if group in _MAKERS else [single[group]]:
            found.setdefault(arm.name, arm)
    if set(groups) & set(GROUPS) or any(arm.against == FULL for arm in found.values()):
        before = REPRESENTATIONAL if "ladder" in groups else SFT if SFT in found else FULL
        found[FULL] = replace(full, against=before)
    order = [name for name in LADDER if name in found]
    return [found[name] for name in order + [name for name in found if name not in order]]


def _ladder(recipe: Recipe) -> Iterator[Arm]:
    yield Arm(BASELINE, "as it is", BASELINE, None)
    yield replace(_plain(recipe), against=BASELINE)
    yield Arm(BLOCK, "+ block", SFT, _with_experts(recipe, ()))
    kept = [name for name in recipe.active_experts() if _class_of(recipe, name).representational]
    if set(kept) != set(recipe.active_experts()):
        yield Arm(REPRESENTATIONAL, "+ representational", BLOCK, _with_experts(recipe, kept))


def _heads(recipe: Recipe) -> Iterator[Arm]:
    for kind in ("linear", "transformer"):
        if kind != recipe.heads.kind:
            yield Arm(f"{kind}-heads", f"{kind} heads", FULL, changed(recipe, "heads.kind", kind))


def _placement(recipe: Recipe) -> Iterator[Arm]:
    for place in ("assistant_prefix", "before_assistant"):
        if place != recipe.thinking.placement:
            yield Arm(place, place.replace("_", " "), FULL, changed(recipe, "thinking.placement", place))


def _stride(recipe: Recipe) -> Iterator[Arm]:
    for stride in (1, 2, 4):
        if stride != recipe.thinking.stride:
            yield Arm(f"stride-{stride}", f"stride {stride}", FULL, changed(recipe, "thinking.stride", stride))


def _experts(recipe: Recipe) -> Iterator[Arm]:
    names = recipe.active_experts()
    for name in names if len(names) > 1 else ():
        kept = [other for other in names if other != name]
        yield Arm(f"without-{name}", f"without {name.replace('_', ' ')}", FULL, _with_experts(recipe, kept))


def _weights(recipe: Recipe) -> Iterator[Arm]:
    stages = [stage.model_copy(update={"experts": dict.fromkeys(stage.experts, 1.0)}) for stage in recipe.stages]
    yield Arm("equal-weights", "all weights 1", FULL, recipe.model_copy(update={"stages": stages}))
    for times in (0.25, 4.0):
        scaled = [stage.model_copy(update={"expert_scale": stage.expert_scale * times}) for stage in recipe.stages]
        yield Arm(f"weights-x{times:g}", f"weights x {times:g}", FULL, recipe.model_copy(update={"stages": scaled}))


def _lora(recipe: Recipe) -> Iterator[Arm]:
    rank, alpha = recipe.lora.rank, recipe.lora.alpha
    yield _plain(recipe)
    for of, title, made in _both(recipe):
        for other in (max(1, rank // 4), rank * 4):
            arm = changed(changed(made, "lora.rank", other), "lora.alpha", max(1, alpha * other // rank))
            yield Arm(f"{of}-rank-{other}", f"{title}, LoRA rank {other}", of, arm)


def _stages(recipe: Recipe) -> Iterator[Arm]:
    if len(recipe.stages) > 1:
        last = recipe.stages[-1]
        steps = sum(stage.steps for stage in recipe.stages)
        whole = StageConfig(name=last.name, steps=steps, learning_rate=last.learning_rate, experts=last.experts)
        yield Arm("one-stage", "one stage", FULL, recipe.model_copy(update={"stages": [whole]}))


def _steps(recipe: Recipe) -> Iterator[Arm]:
    yield _plain(recipe)
    for of, title, made in _both(recipe):
        for times in (2, 4):
            stages = [s.model_copy(update={"steps": s.steps * times}) for s in made.stages]
            yield Arm(
                f"{of}-steps-x{times}", f"{title}, steps x {times}", of, made.model_copy(update={"stages": stages})
            )


def _rate(recipe: Recipe) -> Iterator[Arm]:
    yield _plain(recipe)
    for of, title, made in _both(recipe):
        for times in (0.5, 2.0):
            stages = [s.model_copy(update={"learning_rate": s.learning_rate * times}) for s in made.stages]
            faster = made.model_copy(update={"stages": stages})
            yield Arm(f"{of}-rate-x{times:g}", f"{title}, learning rate x {times:g}", of, faster)


def _fill(recipe: Recipe) -> Iterator[Arm]:
    """The input of think positions: the token alone, random vectors, or the token and the audio itself."""
    plain = _with_experts(recipe, ())
    yield Arm(BLOCK, "+ block", BLOCK, plain)
    yield Arm("random-block", "block of random vectors", BLOCK, changed(plain, "thinking.fill", "random"))
    yield Arm("audio-block", "block of audio", BLOCK, changed(plain, "thinking.fill", "audio"))
    yield Arm("audio-fill", "CoAT from audio", FULL, changed(recipe, "thinking.fill", "audio"))


def _positions(recipe: Recipe) -> Iterator[Arm]:
    """Think tokens where their audio stands, so that nothing else is moved by them."""
    plain = _with_experts(recipe, ())
    yield Arm(BLOCK, "+ block", BLOCK, plain)
    yield Arm("block-at-audio", "+ block, at the audio", BLOCK, changed(plain, "thinking.positions", "audio"))
    yield Arm("full-at-audio", "CoAT, at the audio", FULL, changed(recipe, "thinking.positions", "audio"))


def _mixed(recipe: Recipe) -> Iterator[Arm]:
    """One training for any budget of thinking: a row has no block, or one of stride 1, 2 or 4."""
    mixed = changed(recipe, "thinking.mixed", dict.fromkeys((0, 1, 2, 4), 0.25))
    yield Arm("mixed", "strides mixed", FULL, mixed)
    yield Arm("mixed-audio-fill", "strides mixed, from audio", "mixed", changed(mixed, "thinking.fill", "audio"))


def _plain(recipe: Recipe) -> Arm:
    return Arm(SFT, "fine-tuning alone", SFT, changed(_with_experts(recipe, ()), "thinking.enabled", False))


def _both(recipe: Recipe) -> Iterator[tuple[str, str, Recipe]]:
    """Name, title and recipe of fine-tuning and CoAT: what is best for one need not be best for the other."""
    plain = _plain(recipe)
    assert plain.recipe is not None
    yield SFT, plain.title, plain.recipe
    yield FULL, "CoAT", recipe


_MAKERS: dict[str, Callable[[Recipe], Iterator[Arm]]] = {
    "ladder": _ladder, "heads": _heads, "placement": _placement, "stride": _stride, "experts": _experts,
    "weights": _weights, "lora": _lora, "stages": _stages, "steps": _steps, "rate": _rate, "fill": _fill,
    "positions": _positions, "mixed": _mixed,
}  # fmt: skip
GROUPS = tuple(_MAKERS)


def changed(recipe: Recipe, field: str, value: Any) -> Recipe:
    """A recipe with one field of a part at another value, checked anew."""
    raw = recipe.model_dump(mode="json")
    part, name = field.split(".")
    raw[part][name] = value
    return parse_recipe(raw, f"the recipe with {field}: {value}")


def _with_experts(recipe: Recipe, kept: Sequence[str]) -> Recipe:
    stages = [
        stage.model_copy(update={"experts": {name: w for name, w in stage.experts.items() if name in kept}})
        for stage in recipe.stages
    ]
    return recipe.model_copy(update={"stages": stages})


def _class_of(recipe: Recipe, name: str) -> Any:
    return expert_class(str(recipe.experts.get(name, {}).get("kind", name)))


def fitted(arms: Sequence[Arm], share: float) -> list[Arm]:
    """Arms with as many steps as a budget of time allows: all shortened alike.

    Args:
        arms: The arms.
        share: Share of their steps, at most 1.
    """
    if share >= 1:
        return list(arms)

    def shorter(recipe: Recipe) -> Recipe:
        stages = [s.model_copy(update={"steps": max(1, int(s.steps * share))}) for s in recipe.stages]
        return recipe.model_copy(update={"stages": stages})

    return [replace(arm, recipe=arm.recipe and shorter(arm.recipe)) for arm in arms]
