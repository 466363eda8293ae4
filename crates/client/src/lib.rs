//! The one way to the API: transports under kube-rs, informers, reconcile runner, event recorder.
