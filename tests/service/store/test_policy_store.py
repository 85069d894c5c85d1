"""The policy store's contract on both databases."""

from tests.contracts.policy_store import PolicyStoreContract


class TestPolicyStore(PolicyStoreContract):
    pass
