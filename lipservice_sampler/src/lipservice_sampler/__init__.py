"""What decides at the edge is what the backtest replays: masks, matching and sampling decisions, standard library only."""
