"""Helpers of the integration and fault tests: fake Datadog, ledger oracle, process harness."""
