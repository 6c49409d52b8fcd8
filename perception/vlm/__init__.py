"""Vision-language models behind small protocols: one file a backend."""
