"""StepTimeouts: OnTimeoutPropose, OnTimeoutPrevote and OnTimeoutPrecommit of the paper as timers of the kernel.

There is one timer a step. That of a later round takes the place of the one before.
"""

from __future__ import annotations

from typing import Final

from quorate.kernel import Env
from quorate.protocols.tendermint.current_height import CurrentHeight
from quorate.protocols.tendermint.effects import SetTimeout, Step
from quorate.protocols.tendermint.messages import TendermintConfig

TIMERS: Final = {"propose": Step.PROPOSE, "prevote": Step.PREVOTE, "precommit": Step.PRECOMMIT}


class StepTimeouts:
    """``rounds``: by step, in which round its timer was set. It may be read."""

    def __init__(self, env: Env, config: TendermintConfig, current: CurrentHeight) -> None:
        self._env = env
        self._config = config
        self._current = current
        self.rounds: dict[Step, int] = {}

    def on_set_timeout(self, effect: SetTimeout) -> None:
        """As the rules ask for."""
        self.rounds[effect.step] = effect.round
        self._env.set_timer(effect.step.name.lower(), self._config.timeout_s(effect.step, effect.round))

    def ran_out(self, timer: str) -> None:
        """Tell the rules, unless the height is over."""
        round = self.rounds.pop(TIMERS[timer], None)
        if round is not None:
            self._current.open.rules.on_timeout(TIMERS[timer], round)

    def cancel(self) -> None:
        """The height is over."""
        for step in self.rounds:
            self._env.cancel_timer(step.name.lower())
        self.rounds.clear()
