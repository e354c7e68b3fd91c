"""llmbench measures LLM APIs continuously, with stamps taken by the kernel."""

__version__ = "0.1.0"
