"""What decides at the edge is what the backtest replays: masks, matching, sampling decisions; standard library only."""
