"""How a burst of inferences begins, beside an equal model: what the caches have lost to the other, and how soon it is back.

``python benchmarks/bursts.py MODEL…`` opens each model twice in fresh processes, as ``edgeconv regress`` does, and lets them
take turns. Printed are the medians by place in the burst, and the standard deviation over launches of the
log-ratio of the two, as the plan of ``edgeconv regress`` gives it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edgeconv.latency.channels import between
from edgeconv.latency.plan import LaunchPlan
from edgeconv.latency.sources import BASELINE, COPY, Together, plan_for
from edgeconv.recipe.drilling import DrillRequest, side_of

LENGTH, BURSTS = 8, 6


def main() -> None:
    """Parse, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--launches", type=int, default=30)
    options = parser.parse_args()
    print("| model | ms by place in a burst | standard deviation over launches |")
    print("|---|---|---|")
    for model in options.models:
        side = side_of(model, DrillRequest())
        with Together() as way:
            plan, _ = plan_for(way, (side, side), 0)
            long = LaunchPlan(LENGTH, BURSTS, 1, plan.processor_time)
            equals = {BASELINE: side, COPY: side}
            bursts = [way.launches(equals, long, [seed])[0] for seed in range(options.launches)]
            as_planned = [way.launches(equals, plan, [seed])[0] for seed in range(options.launches)]
        places = np.median([launch[name] for launch in bursts for name in equals], axis=(0, 1)) / 1e6
        spread = between(as_planned, BASELINE, COPY)["typical"].values.std()
        print(
            f"| {model.name} | {', '.join(f'{ms:.3g}' for ms in places)} | {100 * spread:.2f} % |", flush=True
        )


if __name__ == "__main__":
    main()
