"""Are real people read rightly? The package beside the `fer` package, on photographs and on clips of real faces."""
