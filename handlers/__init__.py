"""The functions: one entry file each, and the packages behind them."""
