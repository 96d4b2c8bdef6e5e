//! What every HTTP API here shares: auth, problems, request ids, pages, limits, metrics, OpenAPI, serving.
