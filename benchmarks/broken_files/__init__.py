"""Does every video give a prediction or one sentence? Hundreds of broken and odd files."""
