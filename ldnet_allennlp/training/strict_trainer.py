"""AllenNLP's trainer, to which a misspelt option is an error."""

import inspect
from typing import Any, Callable

from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.trainer import Trainer
from overrides import overrides


def _with_options_alone(method: Callable[..., Trainer]) -> Callable[..., Trainer]:
    """Gives a method the signature of the trainer's constructor but for `**kwargs`: AllenNLP goes by the signature."""
    signature = inspect.signature(GradientDescentTrainer.from_partial_objects.__func__)  # type: ignore[attr-defined]
    options = [option for option in signature.parameters.values() if option.kind is not option.VAR_KEYWORD]
    method.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    return method


@Trainer.register("strict_gradient_descent", constructor="from_partial_objects")
class StrictTrainer(GradientDescentTrainer):
    """
    AllenNLP's "gradient_descent" trainer with the same options. One that it does not have is an error; AllenNLP's own
    trainer takes no notice, and trains its default of 20 epochs where a config says `num_epoch: 3`.
    `allennlp find-lr` wants AllenNLP's own by name: `-o '{"trainer.type": "gradient_descent"}'`.

    Registered as a `Trainer` with name "strict_gradient_descent".

    # Parameters

    As of `GradientDescentTrainer.from_partial_objects`.

    Raises `ConfigurationError`, which names the options, if there are others.
    """

    @classmethod
    @_with_options_alone
    @overrides
    def from_partial_objects(cls, *objects: Any, **options: Any) -> Trainer:
        """What a config's `trainer` section becomes. Arguments as of `GradientDescentTrainer`."""
        return super().from_partial_objects(*objects, **options)
