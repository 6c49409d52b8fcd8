"""The suite's own small vision-language models: made, trained and shipped here."""
