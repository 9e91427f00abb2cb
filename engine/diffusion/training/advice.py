"""What commonly goes wrong in a training, recognised by its signs, with its remedy.

The cases of DreamBooth are those that courses teach; the thresholds are this project's own, set so
that a training that goes well is told nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.text.tokenizer import load_tokenizer

Course = Sequence[tuple[int, float]]
"""(step, loss), always of the same pictures, noise and timesteps."""

MIN_STEPS = 20  # of fewer steps nothing can be said
FEW, MANY = 10, 30  # pictures of a subject
_LEARNED = 0.98  # of the first loss: more is left of it where nothing was learned
_BROKEN = 1.5  # of the first loss
_NOISY = 3.0
_COPIED = 0.5
_ABSENT = 0.3
_RISEN = 1.05
_WAITED = 3
_ARTICLES = ("a", "an", "the")
_COMMON_WORDS = 30_000  # CLIP's tokens stand in the order of how common they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a DreamBooth training binds: the prompt of the subject and that of its class."""

    prompt: str
    class_prompt: str

    @property
    def identifier(self) -> str:
        """The words of the prompt that the class's prompt lacks: sks."""
        of_class = _words(self.class_prompt)
        return " ".join(w for w in _words(self.prompt) if w not in of_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What was measured of a training so far.

    `own` is the loss of the pictures that are learned, `validation` of those held back. `copies` is
    the share of sample pictures that repeat a training picture, `noise` how noisy they are beside
    those. `styles` is how much the identifier does in other prompts beside its own, as a share of
    what that was before the training.
    """

    progress: float
    own: Course = ()
    validation: Course = ()
    copies: float | None = None
    noise: float | None = None
    styles: float | None = None
    is_subject: bool = False


def advise(signs: Signs) -> list[str]:
    """The cases that the signs show, each with its remedy; none where all is well."""
    if (signs.noise or 0) > _NOISY or _is_broken(signs.own):
        return [
            "The samples are noise: the model is over-fitted. Take an earlier snapshot, lower the "
            "learning rate, or sample with DDIM and about 100 steps."
        ]
    if signs.progress >= 0.5 and not _has_learned(signs.own):
        return [_NOT_LIKE_SUBJECT if signs.is_subject else _NOTHING_LEARNED]
    found: list[str] = []
    if signs.copies is not None and signs.copies >= _COPIED:
        found.append(
            "The samples copy the training pictures. Train fewer steps, and use pictures that "
            "differ more in background, light and angle."
        )
    if signs.styles is not None and signs.styles < _ABSENT and _has_learned(signs.own):
        found.append(
            "In other prompts the identifier changes little: the subject will not show in other "
            "styles. Train longer, or repeat the subject in the prompt."
        )
    if over := _over_fitted_since(signs.validation):
        found.append(
            f"The validation loss has risen since step {over}: the pictures are learned by heart. "
            "Take the snapshot of that step, set a patience, or use more pictures."
        )
    if not found and signs.own and signs.own[-1][1] > _RISEN * min(loss for _, loss in signs.own):
        pictures = f", {FEW} to {MANY} pictures" if signs.is_subject else ""
        found.append(
            "The loss of the training pictures rises again, for no reason that is known here. Try "
            f"other parameters: a polynomial schedule instead of a constant one{pictures}."
        )
    return found


_NOT_LIKE_SUBJECT = (
    "The model has hardly learned the subject: pictures will not look like it. Write the class "
    "name after the identifier (sks dog), raise the learning rate, or train longer."
)
_NOTHING_LEARNED = (
    "Hardly anything was learned so far. Raise the learning rate or the rank, or train longer."
)


def _is_broken(own: Course) -> bool:
    return len(own) > 1 and own[-1][1] > _BROKEN * own[0][1]


def _has_learned(own: Course) -> bool:
    """Whether it ever did: what was learned and lost again asks for other remedies."""
    return len(own) > 1 and min(loss for _, loss in own) < _LEARNED * own[0][1]


def _over_fitted_since(validation: Course) -> int | None:
    """The best step, where the loss has risen for some measurements since."""
    if not validation:
        return None
    step, best = min(validation, key=lambda point: point[1])
    waited = sum(n > step for n, _ in validation)
    return step if waited >= _WAITED and validation[-1][1] > _RISEN * best else None


def advise_on_subject(subject: Subject, pictures: int) -> list[str]:
    """What the words and the number of pictures of a DreamBooth training let expect."""
    found: list[str] = []
    own, of_class = _words(subject.prompt), _words(subject.class_prompt)
    identifier = subject.identifier.split()
    missing = [w for w in of_class if w not in own and w not in _ARTICLES]
    if of_class and not identifier:
        found.append(
            "instance_prompt has no word that class_prompt lacks: the subject has no name. Put a "
            "rare word in front of the class name, such as sks dog."
        )
    elif missing:
        found.append(
            f"The class name {missing[-1]} does not follow the identifier {identifier[-1]}: the "
            f"result may not look like the subject. Write {identifier[-1]} {missing[-1]}."
        )
    if len(identifier) == 1 and _is_common(identifier[0]):
        found.append(
            f"The model knows the word {identifier[0]} already, and would mix up both meanings. "
            "Take a rare one, such as sks."
        )
    if not FEW <= pictures <= MANY:
        found.append(f"{pictures} pictures of a subject: {FEW} to {MANY} are best.")
    return found


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?\"'()").lower() for word in text.split()]


def _is_common(word: str) -> bool:
    tokens = load_tokenizer().encode(word)
    return len(tokens) == 1 and tokens[0] < _COMMON_WORDS
