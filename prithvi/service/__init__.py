"""Models as a service: OGC API - Processes over pygeoapi, with jobs on disk and a worker process that holds the model.

The server's process imports neither torch nor rasterio. `settings` says what is served and what is allowed, `places`
which inputs are, `descriptions` how a process is described. `job_store` keeps jobs on disk, and `crew` runs them in
processes of `worker`, whose connections `guard` checks. `manager` is what pygeoapi asks, and `app` puts all of it
together. A CWL package of a model is written by `application_package`, and runs `staged`.
"""
