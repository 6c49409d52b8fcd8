"""What cameras see, turned into arrays and language: frames, projections, embeddings. No simulator in here."""
