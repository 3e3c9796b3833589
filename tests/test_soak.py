"""Job after job between real nodes, each under a fault that a seed chooses; a bounded part of `make soak` (invariants 13-27, 34-37)."""

from __future__ import annotations

import pytest

from tests.soak import GROWTH, KINDS, PARTIES, Soak

SEEDS = range(20)


@pytest.mark.timeout(240)
async def test_whatever_the_network_does_a_job_ends_right_or_for_the_same_reason_everywhere(tmp_path):
    struck = set()
    async with Soak(tmp_path) as network:
        for seed in SEEDS:
            outcome = await network.run(seed)
            if outcome.struck:
                struck.add(outcome.kind)
        await network.check_outputs()
    assert len(struck) >= len(KINDS) // 2, f"most faults came too late for their jobs: {struck}"


@pytest.mark.slow
async def test_a_thousand_jobs_leave_nothing_behind(tmp_path):
    async with Soak(tmp_path) as network:
        for number in range(1000):
            task, right = network.jobs[number % len(network.jobs)]
            answer = await network.asked(PARTIES[number % len(PARTIES)], {"do": "run", "task": task.pack(), "wait": 20.0})
            assert right(answer["result"]), answer
            network.check_canaries(answer)
            if number == 99:
                before = network.usage()
        after = network.usage()
        await network.check_outputs()
    for name, (memory, files, threads) in after.items():
        assert memory < before[name][0] + GROWTH, (before, after)
        assert files == before[name][1], (before, after)
        # A pool of threads grows to its limit by and by.
        assert threads <= before[name][2] + 4, (before, after)
