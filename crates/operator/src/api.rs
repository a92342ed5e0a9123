//! What people write: the custom resources of the group `relay.sh`.

pub mod v1beta1;
