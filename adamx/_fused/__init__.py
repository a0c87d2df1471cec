"""A whole step of AdamW in one pass over memory."""
