"""Messages that are due are found webhook by webhook.

Revision 0015.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_webhook_delivery_state", "webhook_delivery")
    op.create_index("ix_webhook_delivery_due", "webhook_delivery", ["webhook_id", "state", "due_at"])


def downgrade() -> None:
    op.drop_index("ix_webhook_delivery_due", "webhook_delivery")
    op.create_index("ix_webhook_delivery_state", "webhook_delivery", ["state", "due_at"])
