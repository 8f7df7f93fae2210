"""LipService: log sampling policies, proven on real days before they go live."""
