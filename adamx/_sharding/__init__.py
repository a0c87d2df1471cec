"""States over many devices: where each array lies, ZeRO-1, host memory."""
