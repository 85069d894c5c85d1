"""The episode store keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.episode_store import EpisodeStoreContract


class TestEpisodeStore(EpisodeStoreContract):
    pass
