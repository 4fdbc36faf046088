"""A server that speaks the contract of Apple Maps Server API and invents its answers: for
`geolane up --maps demo`, and for tests, which script its failures."""
