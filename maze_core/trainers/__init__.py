"""How policies learn: one loop (``fit``), one protocol (``trainer``), one file per algorithm."""
