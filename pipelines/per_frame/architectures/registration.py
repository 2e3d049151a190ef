"""Makes spandrel know our architectures."""

from __future__ import annotations

from typing import Any

from pipelines.per_frame.architectures import catanet, cfsr, dlgsanet, imdn
from pipelines.per_frame.architectures.description import OwnArchitecture

OWN_ARCHITECTURES = (
    *imdn.ARCHITECTURES,
    *cfsr.ARCHITECTURES,
    *dlgsanet.ARCHITECTURES,
    *catanet.ARCHITECTURES,
)


def register_architectures(spandrel: Any) -> None:
    """Adds our architectures to spandrel's registry, after its own; a second time changes nothing.

    Args:
        spandrel: The module.
    """
    for own in OWN_ARCHITECTURES:
        support = spandrel.ArchSupport.from_architecture(_as_architecture(spandrel, own))
        spandrel.MAIN_REGISTRY.add(support, ignore_duplicates=True)


def _as_architecture(spandrel: Any, own: OwnArchitecture) -> Any:
    # spandrel is imported late (`pipelines.per_frame.importing`), so its classes are Any to mypy.
    class Adapter(spandrel.Architecture):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(id=own.name, detect=own.detect)

        def load(self, state_dict: Any) -> Any:
            built = own.build(state_dict)
            return spandrel.ImageModelDescriptor(
                built.network,
                dict(built.state_dict),
                architecture=self,
                purpose="Restoration" if built.scale == 1 else "SR",
                tags=[],
                supports_half=built.is_half_good,
                supports_bfloat16=built.is_half_good,
                scale=built.scale,
                input_channels=built.channels,
                output_channels=built.channels,
                size_requirements=spandrel.SizeRequirements(
                    minimum=built.minimum, multiple_of=built.multiple
                ),
            )

    return Adapter()
