"""What methods that fine-tune a causal language model share: prompts, rows, the loss of answers, the SFT stage."""
