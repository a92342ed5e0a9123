//! Plans in a cluster that does what it likes: Jobs fail, claims and Jobs vanish, images and wishes change, storage and
//! nodes cannot do what they could, and the operator is killed between any two steps.

mod world;

use proptest::prelude::*;
use relay_operator::{
    api::v1beta1::{Delivery, Fill, ToolsDelivery},
    tenant::{
        plan::{Plan, Wanted, plan},
        seen::JobState,
    },
};

use crate::settings;
use world::{CLASSES, Event, Images, Powers, World};

fn powers() -> impl Strategy<Value = Powers> {
    let sharing = prop::collection::btree_set(prop::sample::select(CLASSES.to_vec()), 0..3);
    let images = prop::sample::select(vec![Images::Mounted, Images::Dropped, Images::TooYoung]);
    (sharing, images).prop_map(|(sharing, images)| Powers { sharing, images })
}

fn wishes() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        4 => Just(Delivery::Auto),
        2 => Just(Delivery::PersistentVolumeClaim),
        1 => Just(Delivery::ImageVolume),
        1 => Just(Delivery::InitContainer),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    let fills = prop::sample::select(vec![Fill::Direct, Fill::Clone]);
    let classes = prop::option::of(prop::sample::select(CLASSES.to_vec()));
    prop_oneof![
        8 => Just(Event::Reconcile),
        3 => (0..3_usize).prop_map(Event::ReconcilePartly),
        4 => Just(Event::JobsEnd(JobState::Succeeded)),
        1 => Just(Event::JobsEnd(JobState::Failed("it failed".to_owned()))),
        2 => Just(Event::JobsVanish),
        3 => Just(Event::ClaimsBind),
        1 => Just(Event::ClaimVanishes),
        3 => Just(Event::PodStarts),
        2 => Just(Event::PodEnds),
        3 => (1..400_i64).prop_map(Event::TimePasses),
        2 => (0..3_u8).prop_map(Event::NewImage),
        1 => (wishes(), fills).prop_map(|(delivery, fill)| Event::NewWish(delivery, fill)),
        1 => classes.prop_map(Event::NewClass),
        1 => powers().prop_map(Event::NewPowers),
    ]
}

/// All that is begun comes to its end.
fn calm(world: &mut World) {
    for _ in 0..15 {
        let events = [
            Event::Reconcile,
            Event::ClaimsBind,
            Event::Reconcile,
            Event::JobsEnd(JobState::Succeeded),
            Event::Reconcile,
            Event::JobsVanish,
            Event::ClaimsBind,
            Event::TimePasses(400),
        ];
        for event in &events {
            world.happen(event);
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_pods_keep_their_tools_and_the_tenant_becomes_ready(
        events in prop::collection::vec(events(), 0..60),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.pods.clear();
        // What is written is not replaced, so the cluster must be able to do it; otherwise some way is found.
        if world.tenant.spec.entrypoint_injection.delivery != Delivery::Auto {
            world.happen(&Event::NewPowers(Powers::all()));
            world.happen(&Event::NewClass(Some("nfs")));
        }
        calm(&mut world);
        prop_assert!(world.is_ready(), "{:?}", world.tenant.status);
        let tools = world.tenant.status.clone().unwrap().tools.unwrap();
        let claims = usize::from(tools.delivery == ToolsDelivery::PersistentVolumeClaim);
        prop_assert_eq!(world.observed.claims.len(), claims, "{:?}", world.observed.claims);
        prop_assert_eq!(&tools.image, &format!("tools:{}", world.image));
        let before = world.tenant.clone();
        let settings = settings(&format!("tools:{}", world.image));
        let wanted = Wanted::new(&before, &settings, Some("PEM".to_owned()), &world.observed);
        prop_assert_eq!(wanted.choice.delivery, tools.delivery);
        let Plan { steps, status, .. } = plan(&wanted, &world.observed, world.now);
        prop_assert!(steps.is_empty(), "{:?}", steps);
        prop_assert_eq!(Some(&status), before.status.as_ref());
    }
}

#[test]
fn a_tenant_that_leaves_the_choice_gets_the_first_way_that_the_cluster_can_go() {
    let sharing = [vec![], vec!["nfs"], vec!["block"], CLASSES.to_vec()];
    for (sharing, class) in sharing
        .iter()
        .flat_map(|sharing| [None, Some("nfs"), Some("block")].map(|it| (sharing, it)))
    {
        for images in [Images::Mounted, Images::Dropped, Images::TooYoung] {
            let mut world = World::new();
            let powers = Powers { sharing: sharing.iter().copied().collect(), images };
            world.happen(&Event::NewPowers(powers));
            world.happen(&Event::NewClass(class));
            calm(&mut world);
            let tools = world.tenant.status.clone().unwrap().tools.unwrap();
            let expected = if class.is_some_and(|class| sharing.contains(&class)) {
                ToolsDelivery::PersistentVolumeClaim
            } else if images == Images::Mounted {
                ToolsDelivery::ImageVolume
            } else {
                ToolsDelivery::InitContainer
            };
            assert_eq!(tools.delivery, expected, "{sharing:?} {class:?} {images:?}");
        }
    }
}
