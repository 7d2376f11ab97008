"""The verbs of `ftx-client`, one module for each subject. What they do happens in `ftx.client.api` and below."""
