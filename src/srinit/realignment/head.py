"""What all processes must know of a map before they add up its equations; of the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from srinit.realignment.equations import Equations, Geometry, Grid
from srinit.realignment.pair import MapSums


@dataclass(frozen=True, slots=True)
class MapHead:
    """How a map reads its input, what is behind it, and how its sums are kept."""

    geometry: Geometry
    scale: Tensor  # square of what each channel is multiplied by behind the map
    share: float  # of the positions that are read
    grid: Grid

    def plain(self) -> dict[str, Any]:
        """Return it as JSON, every number exact."""
        return {
            "geometry": asdict(self.geometry),
            "scale": self.scale.double().tolist(),
            "share": self.share,
            "grid": asdict(self.grid),
        }

    @classmethod
    def of(cls, said: Mapping[str, Any], device: torch.device) -> MapHead:
        """Return what `plain` gave."""
        scale = torch.tensor(said["scale"], dtype=torch.float64, device=device)
        geometry, grid = Geometry(**_tuples(said["geometry"])), Grid(**_tuples(said["grid"]))
        return cls(geometry, scale, said["share"], grid)

    def sums(self, *, bias_only: bool) -> MapSums:
        """Return the sums, still empty; `bias_only`: of what a change of the bias needs."""
        equations = Equations(self.geometry, self.share, bias_only, self.grid)
        return MapSums(equations, self.scale)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
