"""What every run store must do: subclass the suite and give ``stores`` and ``database_url`` fixtures."""

from tests.contracts.run_changes import ChangesContract
from tests.contracts.run_feed import FeedContract
from tests.contracts.run_life import LifeContract
from tests.contracts.run_reports import ReportContract
from tests.contracts.run_submission import SubmissionContract


class RunStoreContract(SubmissionContract, LifeContract, ChangesContract, ReportContract, FeedContract):
    """All of it."""
