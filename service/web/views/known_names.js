/** What the numbers of well-known environments mean, by the beginning of their ids. */

/** @type {[id: string, observations: string[], actions: string[]][]} */
const KNOWN = [
  ["CartPole", ["cart position", "cart velocity", "pole angle", "pole angular velocity"], ["push left", "push right"]],
  ["MountainCarContinuous", ["position", "velocity"], ["force"]],
  ["MountainCar", ["position", "velocity"], ["push left", "no push", "push right"]],
  ["Pendulum", ["cos of the angle", "sin of the angle", "angular velocity"], ["torque"]],
  ["Acrobot", ["cos of angle 1", "sin of angle 1", "cos of angle 2", "sin of angle 2", "angular velocity 1", "angular velocity 2"],
    ["torque −1", "no torque", "torque +1"]],
  ["LunarLanderContinuous", ["x", "y", "x velocity", "y velocity", "angle", "angular velocity", "left leg touches", "right leg touches"],
    ["main engine", "side engines"]],
  ["LunarLander", ["x", "y", "x velocity", "y velocity", "angle", "angular velocity", "left leg touches", "right leg touches"],
    ["nothing", "left engine", "main engine", "right engine"]],
  ["FrozenLake", ["square"], ["left", "down", "right", "up"]],
  ["CliffWalking", ["square"], ["up", "right", "down", "left"]],
  ["Taxi", ["state"], ["south", "north", "east", "west", "pick up", "drop off"]],
  ["Blackjack", ["own sum", "dealer shows", "usable ace"], ["stick", "hit"]],
];

/** @typedef {{ observations: string[], actions: string[] }} Names */

/** @param {string | null | undefined} env @returns {Names} */
export function namesOf(env) {
  const [, observations = [], actions = []] = KNOWN.find(([id]) => env?.startsWith(id)) ?? [];
  return { observations, actions };
}
