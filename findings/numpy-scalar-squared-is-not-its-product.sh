#!/usr/bin/env bash
# NumPy 2.4.6: x ** 2 has other last bits for a scalar than for an array that holds it.
# Guess: squaring is one correctly rounded product, so an environment whose step() computes with NumPy scalars (gymnasium's
# Pendulum and Acrobot do) can be stepped as a batch by the same expression with the same bits. Seen: for a float64 scalar
# x ** 2 is the C library's pow, for an array it is x * x; about one number in a thousand differs in the last bit, of float32
# scalars too. A batched copy of such an environment drifts from the original; numpy.float_power has the scalar's bits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import gymnasium
import numpy as np

numbers = 5 * np.random.default_rng(0).normal(size=100_000)
scalars = np.array([x**2 for x in numbers])
print("scalar ** 2 is not array ** 2:", np.count_nonzero(scalars != numbers**2), "of", len(numbers))
print("scalar ** 2 is not float_power:", np.count_nonzero(scalars != np.float_power(numbers, 2.0)))
assert 0 < np.count_nonzero(scalars != numbers**2) < 1000
assert np.array_equal(scalars, np.float_power(numbers, 2.0))
assert np.array_equal(numbers**2, numbers * numbers)

env = gymnasium.make("Pendulum-v1").unwrapped
env.reset(seed=0)
rng, n_other = np.random.default_rng(1), 0
for _ in range(5000):
    theta, speed = np.array([env.state[0]]), np.array([env.state[1]])
    torque = rng.uniform(-2, 2, 1).astype(np.float32)
    _, reward, *_ = env.step(torque)
    angle = ((theta + np.pi) % (2 * np.pi)) - np.pi
    n_other += -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)[0] != reward
print("rewards of Pendulum-v1 that the same expression on arrays does not give:", n_other, "of 5000")
assert n_other > 0
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
