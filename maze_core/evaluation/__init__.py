"""How good a policy is: returns of seeded episodes, with a confidence interval."""
